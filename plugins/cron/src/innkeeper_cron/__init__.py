"""The cron trigger of Innkeeper."""
