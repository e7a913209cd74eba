"""A page of charts, tables for papers and model cards, two runs side by side: all of it out of the store's rows."""
