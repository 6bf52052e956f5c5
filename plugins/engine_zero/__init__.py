"""Strategy `zero`: DeepSpeed's ZeRO, which divides what every process would hold a copy of."""
