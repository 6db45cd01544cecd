{% macro generate_alias_name(custom_alias_name=none, node=none) -%}
    {%- if custom_alias_name -%}{{ custom_alias_name | trim }}
    {%- elif node.version -%}{{ node.name ~ '_v' ~ node.version }}
    {%- else -%}{{ node.name }}{%- endif -%}
{%- endmacro %}

{% macro shop__ignored() %}{% endmacro %}

{% macro postgres__money(column, digits) -%}
    {{ shop_tools.rounded(column, digits or 2) }}
{%- endmacro %}
