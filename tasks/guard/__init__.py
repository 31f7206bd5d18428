"""The guard: one supervised process per venue account that owns the bot's permission to trade. No Prefect in it."""
