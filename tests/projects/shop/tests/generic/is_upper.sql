{% test is_upper(model, column_name) %}
select {{ column_name }} from {{ model }} where {{ column_name }} <> upper({{ column_name }})
{% endtest %}

{% test at_least_rows(model, rows=1) %}
{{ config(fail_calc='coalesce(max(missing), 0)') }}
select {{ rows }} - count(*) as missing from {{ model }} having count(*) < {{ rows }}
{% endtest %}
