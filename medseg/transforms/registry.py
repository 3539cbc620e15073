"""MONAI's dictionary transforms by name, as users write them in YAML."""



