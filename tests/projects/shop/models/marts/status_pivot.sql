{%- set statuses = dbt_statuses() -%}
select
    customer_id
    {%- for status in statuses %},
    sum(case when status = '{{ status }}' then amount else 0 end) as {{ status }}_amount
    {%- endfor %}
from {{ ref('stg_orders') }}
group by 1
