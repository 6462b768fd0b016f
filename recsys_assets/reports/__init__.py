"""The daily report: drift of the data, figures of models and lists, what was served, and the page that shows them."""
