{#- Values that a POSIX regular expression does not match; the empty text is a value. Nulls pass. -#}
{% test matches_regex(model, column_name, pattern) %}
select {{ column_name }} as malformed_value
from {{ model }}
where {{ column_name }} !~ '{{ pattern }}'
{% endtest %}
