"""Uses what was trained: answers, measures, fuses, compares and shares any checkpoint."""
