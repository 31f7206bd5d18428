"""A venue of our own: it matches, keeps accounts and speaks Bybit V5. Never imported by live code."""
