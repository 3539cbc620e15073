"""COCO: the objects that are drawn on pictures, all in one JSON file."""
