{#- Values outside of min_value .. max_value; the lower bound itself is outside with exclusive_min. Nulls pass. -#}
{% test between(model, column_name, min_value, max_value, exclusive_min=false) %}
select {{ column_name }} as value_outside
from {{ model }}
where {{ column_name }} {{ '<=' if exclusive_min else '<' }} {{ min_value }}
   or {{ column_name }} > {{ max_value }}
{% endtest %}
