-- Show the outcome of a job to a Celery caller.
--
-- Needs: outcome
--
-- ARGV[1]  the key of its result
-- ARGV[2]  the result, as Celery writes it
-- ARGV[3]  seconds to keep it
show_outcome(ARGV[1], ARGV[2], ARGV[3])
