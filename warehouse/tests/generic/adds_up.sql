{#- Rows whose whole is not the sum of its parts. -#}
{% test adds_up(model, whole, parts) %}
select {{ whole }} as whole, {{ parts | join(' + ') }} as sum_of_parts
from {{ model }}
where {{ whole }} <> {{ parts | join(' + ') }}
{% endtest %}
