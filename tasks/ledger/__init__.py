"""The state of every job in Redis; each change is one Lua script."""
