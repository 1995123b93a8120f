"""What stands between a Guard and its backend, so that a store that is away takes nothing down and loses nothing."""
