"""The only way to the network: limited, timed, and unable to send a last block before its commit."""
