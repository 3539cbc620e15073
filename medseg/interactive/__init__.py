"""Segmentation with a person in the loop: prompts, and how a network sees them."""
