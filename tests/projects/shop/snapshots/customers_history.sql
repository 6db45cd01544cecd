{% snapshot customers_history %}
{{ config(strategy='check', unique_key='customer_id', check_cols=['name', 'country']) }}
select customer_id, name, country from {{ ref('stg_customers') }}
{% endsnapshot %}
