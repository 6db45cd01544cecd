{% macro rate() %}{{ return(2) }}{% endmacro %}

{% macro taxed(column) %}{{ column }} * {{ kiosk_tools.rate() }}{% endmacro %}
