{# What templates borrow of Python, as a row of values. #}
{% macro borrowed() %}
  {% set found = modules.re.findall('(?ix) (?<!not\s) (from|join) \s+ (\w+) (?=\s|$)', 'from a not from b join c') %}
  {% set zone = modules.pytz.timezone('America/Los_Angeles') %}
  {% set noon = modules.datetime.datetime(2024, 1, 2, 12) %}
  {% set early = zone.localize(modules.datetime.datetime(2024, 1, 2, 3)) %}
  {{ return([
      found | map('last') | join('+'),
      modules.re.sub('(a+)(?=b)', '<\\1>', 'aab a'),
      modules.datetime.datetime(1997, 9, 29, 6, 14, tzinfo=zone) | string,
      (early > modules.datetime.datetime.fromisoformat('2024-01-02T12:00:00+02:00')) | string,
      noon.isoformat(),
      ['x', 'y'].index('y') | string,
      (['X', 'Y'] | map('lower') | list).index('y') | string,
      api.Column.translate_type('integer') ~ api.Column.translate_type('string'),
  ]) }}
{% endmacro %}

{% test any_of(model, column_name, columns) %}
  select * from {{ model }} where {{ column_name }} is null and coalesce({{ columns | join(', ') }}) is null
{% endtest %}
