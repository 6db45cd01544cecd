{#- Moments later than the plant's present, see the variable business_now; a few minutes are allowed between clocks. -#}
{% test not_in_future(model, column_name, allowance_minutes=5) %}
select {{ column_name }} as future_moment
from {{ model }}
where {{ column_name }} > {{ business_now() }} + interval '{{ allowance_minutes }} minutes'
{% endtest %}
