{{ dbt.date_spine('day', "cast('" ~ var('first_day') ~ "' as date)", "cast('2024-01-10' as date)") }}
