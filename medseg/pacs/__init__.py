"""medseg beside a PACS: it receives studies, segments what fits a model, and sends the results back."""
