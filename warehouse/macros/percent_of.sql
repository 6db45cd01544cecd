{#- A share as percent 0-100 with four decimals; null where there is no whole. -#}
{% macro percent_of(part, whole) -%}
    round(100.0 * ({{ part }}) / nullif({{ whole }}, 0), 4)
{%- endmacro %}
