{#- Batches that landed more than once: at least min_rows different rows of the batch have a twin that equals them in
    every compared column. Single twins are legal, for two units can measure the same. -#}
{% test no_repeated_batch(model, batch_column, compared_columns, min_rows=3) %}
select distinct_rows.batch as repeated_batch, count(*) as repeated_rows
from (
    select {{ batch_column }} as batch, count(*) as copies
    from {{ model }}
    group by {{ batch_column }}{% for column in compared_columns %}, {{ column }}{% endfor %}
) as distinct_rows
where distinct_rows.copies > 1
group by distinct_rows.batch
having count(*) >= {{ min_rows }}
{% endtest %}
