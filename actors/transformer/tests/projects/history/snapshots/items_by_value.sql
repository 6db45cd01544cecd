{% snapshot items_by_value %}
{{ config(unique_key=['id', 'kind'], strategy='check', check_cols=['price', 'name']) }}
select id, kind, name, price from {{ ref('items') }}
{% endsnapshot %}
