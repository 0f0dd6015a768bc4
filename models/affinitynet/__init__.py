"""AffinityNet (Ahn and Kwak 2018), and what it learns by."""
