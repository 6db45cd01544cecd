{#- OEE is the product of its three factors; the tolerance covers the rounding of each to three decimals. -#}
{% test oee_is_product(model, tolerance) %}
select oee, availability, performance, quality_rate
from {{ model }}
where abs(oee - availability * performance * quality_rate) > {{ tolerance }}
{% endtest %}
