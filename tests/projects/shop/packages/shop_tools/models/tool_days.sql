select generate_series('{{ var("first_day") }}'::timestamp, '2024-01-09', interval '1 day') as date_day
