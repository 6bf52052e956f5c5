"""`engine scaling fit`: what the runs tell, as tables, JSON and a plot."""
