"""From a Result to what people read: the screen, tables, pictures and the page."""
