"""Sentences to embed: pairs on the same subject (2i, 2i + 1), of different length and register."""

SENTENCES = (
    "The cat slept on the warm windowsill all afternoon.",
    "All afternoon a kitten was napping in the sun by the window.",
    "Interest rates rose by a quarter of a point, and the bond market fell sharply.",
    "Bonds dropped after the central bank increased its benchmark rate by 25 basis points.",
    "How do I reverse a linked list in Python?",
    "What is the way to flip the order of nodes in a singly linked list?",
    "Water boils at a lower temperature on a mountain because the air pressure is lower.",
    "At high altitude, reduced atmospheric pressure lowers the boiling point of water.",
    "She bought two tickets for the late show.",
    "Two seats for tonight's last performance were reserved by her.",
    "The patient was given antibiotics for a bacterial infection of the lungs.",
    "Pneumonia caused by bacteria is treated with antibiotics.",
    "The team scored in the final minute and won the championship.",
    "A goal in stoppage time gave them the title.",
    "Add the flour slowly, stirring all the time, until the sauce thickens.",
    "Whisk the flour in little by little so that the gravy has no lumps and becomes thick.",
    "The treaty was signed in 1648 and ended thirty years of war.",
    "The Peace of Westphalia concluded the Thirty Years' War.",
    "My laptop does not charge any more!",
    "The battery of my notebook computer refuses to fill up when it is plugged in, although the "
    "light beside the socket is on and I have already tried another cable and another charger.",
    "Sparse matrices store only the entries that are not zero.",
    "A compressed row format keeps just the nonzero values and their column numbers.",
    "Be quiet.",
    "Please stop talking.",
)
