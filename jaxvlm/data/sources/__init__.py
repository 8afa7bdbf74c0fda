"""Sources: data sets as sequences of rows."""
