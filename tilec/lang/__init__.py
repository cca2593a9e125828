"""The language, in two spellings that walk one syntax tree: Python functions and `.tile` text."""
