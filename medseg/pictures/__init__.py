"""How images and their masks are shown as pictures."""
