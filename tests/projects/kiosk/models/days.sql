select '2024-01-01'::date as day
