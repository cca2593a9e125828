"""Back ends: from IR to source text for one machine. Know the IR only, and not each other."""
