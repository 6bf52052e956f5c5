"""The page of one run or several (``engine report``): what is shown, and how it is drawn."""
