"""What happens to a case that is prepared: it is checked, measured, compared with the others, and stored."""
