{{ config(materialized='table', contract={'enforced': true}) }}
select customer_id, country, paid_orders from {{ ref('customers') }}
