"""Every sentence that a front desk reads, in its language: why a document failed or waits, and what to do.

Elsewhere sentences are for operators and callers, and in English. Here they are values first (`Explanation`), which the
notes beside documents show, and whatever else shows them to people who know no command.
"""
