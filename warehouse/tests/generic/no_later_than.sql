{#- Rows whose earlier moment lies after their later one. -#}
{% test no_later_than(model, earlier_column, later_column) %}
select {{ earlier_column }}, {{ later_column }}
from {{ model }}
where {{ earlier_column }} > {{ later_column }}
{% endtest %}
