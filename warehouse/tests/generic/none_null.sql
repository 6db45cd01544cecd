{#- Rows that lack a required value, with the names of the columns that are null. One pass for all columns. -#}
{% test none_null(model, columns) %}
select
    concat_ws(', '
    {%- for column in columns %}
    , case when {{ column }} is null then '{{ column }}' end
    {%- endfor %}
    ) as null_columns
from {{ model }}
where num_nulls({{ columns | join(', ') }}) > 0
{% endtest %}
