{#- The plant's wall clock at a `timestamptz`: days, hours and shifts are counted on it. -#}
{% macro plant_time(moment) -%}
    ({{ moment }} at time zone '{{ var("plant_timezone") }}')
{%- endmacro %}

{#- The moment the plant lives in, see the variable `business_now`. -#}
{% macro business_now() -%}
    {%- if var('business_now') -%}
        cast('{{ var("business_now") }}' as timestamptz)
    {%- else -%}
        now()
    {%- endif -%}
{%- endmacro %}
