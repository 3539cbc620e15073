"""What happens to a case that is predicted: it is read, segmented and written; and what is told of it."""
