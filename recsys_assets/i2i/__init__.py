"""Methods: item-to-item similarity, one short file a formula."""
