{{ config(indexes=[{'columns': ['customer_id'], 'unique': true}, {'columns': ['country']}],
          post_hook=["insert into {{ target.schema }}.run_log (what) values ('{{ this.identifier }}')"]) }}
{%- set statuses = ['open', 'paid', 'returned'] -%}

select
    customers.customer_id,
    customers.name,
    customers.country,
    {%- for status in statuses %}
    count(*) filter (where orders.status = '{{ status }}') as {{ status }}_orders,
    {%- endfor %}
    coalesce(sum(paid.amount), 0) as paid_{{ var('currency') | lower }}
from {{ ref('stg_customers') }} as customers
left join {{ ref('shop', 'stg_orders') }} as orders using (customer_id)
left join {{ ref('paid_orders') }} as paid on paid.order_id = orders.order_id
group by 1, 2, 3
