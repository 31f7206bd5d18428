"""Binance, OKX and Bitget through the ccxt library, behind the same port. Imported only where one was asked for."""
