select order_id, ordered_on from {{ ref('stg_orders') }}
