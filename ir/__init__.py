"""The language of tiles: values, ops, text and meaning. Knows no pass, back end or device."""
