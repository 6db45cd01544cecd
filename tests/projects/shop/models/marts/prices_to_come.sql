select prices.*, before.amount
from {{ ref('prices') }} as prices
join {{ ref('shop', 'prices', v=1) }} as before using (order_id)
