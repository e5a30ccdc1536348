"""Recipes: the commands that train and evaluate models, and their configs."""
