"""Methods: item-to-item similarity, one short file per formula."""
